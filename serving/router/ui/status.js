"use strict";
const PERIOD_MS = 2000;
const byId = (id) => document.getElementById(id);
let service = null;

function show(node, text, state = "") {
  if (node.textContent !== text) node.textContent = text;
  for (const name of ["good", "warn", "bad"]) node.classList.toggle(name, name === state);
}

/** A copy of a template; `put(field, text, state)` fills what it has a data-field for. */
function copyOf(templateId) {
  const node = byId(templateId).content.firstElementChild.cloneNode(true);
  const fields = Object.fromEntries(
    [...node.querySelectorAll("[data-field]")].map((field) => [field.dataset.field, field]));
  return { node, put: (field, text, state) => show(fields[field], text, state) };
}

/** The copies in `parent` as the keys have them: who stays keeps its place on the page. */
function keep(copies, parent, templateId, keys) {
  for (const [key, copy] of copies) {
    if (!keys.includes(key)) { copy.node.remove(); copies.delete(key); }
  }
  for (const key of keys) {
    if (!copies.has(key)) copies.set(key, copyOf(templateId));
    const { node } = copies.get(key);
    if (parent.children[keys.indexOf(key)] !== node) {
      parent.insertBefore(node, parent.children[keys.indexOf(key)] ?? null);
    }
  }
}

function seconds(s) {
  if (s === null) return "–";
  if (s < 1) return `${s < 0.01 ? (s * 1000).toFixed(1) : Math.round(s * 1000)} ms`;
  return s < 100 ? `${s.toFixed(1)} s` : `${Math.round(s / 60)} min`;
}

function count(n) {
  if (n < 1e4) return String(n);
  return n < 1e6 ? `${Math.round(n / 1e3)}k` : `${(n / 1e6).toFixed(1)}M`;
}

function rate(n, s) {
  const each = n / Math.max(s, 1);
  return each === 0 ? "0" : each < 10 ? each.toFixed(1) : count(Math.round(each));
}

const percent = (part) => (part === null ? "–" : `${Math.round(part * 100)} %`);
const p99 = (name, { p99_s }) => (p99_s === null ? "nothing lately" : `${name} ${seconds(p99_s)}`);
const many = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

const models = new Map();

function showModel(name, model) {
  const { node, put } = models.get(name);
  const { recent, replicas } = model;
  const up = replicas.filter((replica) => !replica.left_out).length;
  const running = replicas.reduce((sum, replica) => sum + replica.requests_in_flight, 0);
  put("name", name);
  put("aliases", model.aliases.length ? `also ${model.aliases.join(", ")}` : "");
  put("state", up ? `${up} of ${replicas.length} up` : "no replica",
    up === 0 ? "bad" : up < replicas.length ? "warn" : "good");
  put("running", count(running));
  put("replicas", `on ${many(replicas.length, "replica")}`);
  put("waiting", count(model.waiting), model.waiting ? "warn" : "");
  put("queue", p99("waited p99", recent.queue));
  put("hits", percent(recent.hit_rate));
  put("expected", `expected ${percent(recent.expected_hit_rate)}`);
  put("errors", `${count(recent.refused)}, ${count(recent.failed)}`,
    recent.failed ? "bad" : recent.refused ? "warn" : "");
  put("window", `in the last ${recent.seconds < 100 ? `${Math.round(recent.seconds)} s`
    : seconds(recent.seconds)}`);
  for (const [field, objective] of [["ttft", "ttft_s"], ["itl", "itl_s"]]) {
    const { p50_s } = recent[field];
    put(field, seconds(p50_s), p50_s > service.objectives[objective] ? "bad" : "");
    put(`${field}99`, p99("p99", recent[field]));
  }
  put("requests", rate(recent.requests, recent.seconds));
  put("tokens", rate(recent.output_tokens, recent.seconds));
  put("none", replicas.length ? "" : "No replica is up. Requests wait for one; it is expected in "
    + `${many(model.startup_left_s, "second")}.`);
  node.querySelector("table").hidden = !replicas.length;
  node.rows ??= new Map();
  keep(node.rows, node.querySelector("tbody"), "replica-row", replicas.map((one) => one.replica));
  for (const replica of replicas) showReplica(node.rows.get(replica.replica), replica);
}

function showReplica({ node, put }, replica) {
  const meter = node.querySelector("meter");
  put("name", replica.replica);
  put("state", replica.left_out ? "ejected: it failed" : "", replica.left_out ? "bad" : "");
  put("address", replica.address);
  put("load", percent(replica.load));
  put("running", count(replica.requests_in_flight));
  put("tokens", count(replica.tokens_in_flight)
    + (replica.kv_cache_tokens === null ? "" : ` of ${count(replica.kv_cache_tokens)}`));
  meter.hidden = replica.load === null;
  meter.value = replica.load ?? 0;
  meter.setAttribute("aria-label", `Load of ${replica.replica}`);
}

function showService() {
  const all = Object.entries(service.models);
  const without = all.filter(([, model]) => !model.replicas.some((one) => !one.left_out)).length;
  const leftOut = all.flatMap(([, model]) => model.replicas).filter((one) => one.left_out).length;
  if (without) show(byId("state"), `${many(without, "model")} without a replica`, "bad");
  else if (leftOut) show(byId("state"), `${many(leftOut, "replica")} ejected`, "warn");
  else show(byId("state"), "all up", "good");
  const versions = Object.entries(service.versions).map((version) => version.join(" "));
  show(byId("about"), `router ${service.router}${service.routers > 1
    ? `, one of ${service.routers}: queue, hit rate and latency are its own` : ""} · ${
    versions.join(" · ")}`);
  byId("key-field").hidden = !service.needs_api_key;
  const names = all.map(([name]) => name);
  keep(models, byId("models"), "model-card", names);
  for (const [name, model] of all) showModel(name, model);
  const select = byId("model");
  if (names.join() !== [...select.options].map((option) => option.value).join()) {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.dispatchEvent(new Event("change"));
  }
}

async function poll() {
  try {
    if (!document.hidden) {
      const key = byId("admin-key").value.trim();
      const headers = key ? { authorization: `Bearer ${key}` } : {};
      const response = await fetch("/-/status", { headers, signal: AbortSignal.timeout(5000) });
      byId("admin-field").hidden = response.ok;
      if ([401, 403, 429].includes(response.status)) {
        show(byId("state"), "the admin key is needed", "warn");
        return;
      }
      if (!response.ok) throw new Error(response.status);
      service = await response.json();
      showService();
    }
  } catch (error) {
    show(byId("state"), "the router does not answer: figures are old", "bad");
  } finally {
    setTimeout(poll, PERIOD_MS);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  byId("admin-field").addEventListener("submit", (event) => event.preventDefault());
  poll();
});
