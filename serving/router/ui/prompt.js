const MOST_IMAGE_BYTES = 20 * 1024 * 1024;
let image = null;
let asking = null;

const dataUri = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});

function fail(text) {
  show(byId("error"), text);
  byId("error").hidden = false;
}

async function takeImage() {
  const [file] = byId("image").files;
  image = null;
  byId("preview").hidden = true;
  byId("error").hidden = true;
  if (!file) return;
  if (file.size > MOST_IMAGE_BYTES) {
    fail("The image is larger than 20 MiB. Choose a smaller one.");
    byId("image").value = "";
    return;
  }
  image = await dataUri(file);
  byId("preview").src = image;
  byId("preview").hidden = false;
}

function body() {
  const text = byId("text").value;
  const content = image === null || byId("image-field").hidden ? text
    : [{ type: "text", text }, { type: "image_url", image_url: { url: image } }];
  return {
    model: byId("model").value,
    messages: [{ role: "user", content }],
    stream: true,
    stream_options: { include_usage: true },
  };
}

/** The data of the server-sent events of a response. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ")) yield line.slice(6);
    }
  }
}

async function errorOf(response) {
  const text = await response.text();
  try {
    const { message, code } = JSON.parse(text).error;
    return `${response.status}${code ? ` ${code}` : ""}: ${message}`;
  } catch {
    return `${response.status}: ${text.slice(0, 200)}`;
  }
}

function explain(headers, facts) {
  const replica = headers.get("x-replica");
  const [prompt, expected, found] = ["x-prompt-tokens", "x-expected-cached-tokens",
    "x-cached-tokens"].map((name) => headers.get(name));
  const retries = Number(headers.get("x-retries") ?? 0);
  byId("why").textContent = replica === null ? "No replica was asked." : `${replica} answered. ${
    Number(expected) > 0 ? `The router placed it there (${service.placement}), expecting ${expected
      } tokens of the prompt in its cache.` : `The router placed it there (${service.placement}); `
      + "it expected nothing of the prompt in its cache."}${
    retries ? ` ${many(retries, "replica")} asked before had failed.` : ""}`;
  const rows = [
    ["Replica", replica],
    ["Queue time", headers.has("x-queue-time-ms") ? `${headers.get("x-queue-time-ms")} ms` : null],
    ["Prompt", prompt === null ? null : many(Number(prompt), "token")],
    ["Cached, expected", expected === null ? null : many(Number(expected), "token")],
    ["Cached, found", found === null ? null : many(Number(found), "token")],
    ["Retries", headers.get("x-retries")],
    ["Not let in", headers.get("x-refused")],
    ["max_tokens", headers.get("x-max-tokens-clamped")],
    ["Warnings", headers.get("x-request-warnings")],
    ...Object.entries(facts),
    ["Request id", headers.get("x-request-id")],
  ];
  byId("facts").replaceChildren(...rows.filter(([, value]) => value !== null).flatMap(
    ([name, value]) => ["dt", "dd"].map((kind, i) => {
      const node = document.createElement(kind);
      node.textContent = [name, value][i];
      return node;
    })));
}

async function stream(response, began) {
  const text = byId("answer").firstChild;
  const facts = {};
  let complete = false, continued = false, firstAt = null, tokens = null;
  for await (const data of events(response)) {
    if (data === "[DONE]") { complete = true; continue; }
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message);
    const piece = event.choices?.[0]?.delta;
    if (piece?.reasoning || piece?.content) {
      if (firstAt === null) {
        firstAt = performance.now();
        facts["First token after"] = seconds((firstAt - began) / 1000);
        explain(response.headers, facts);
      }
      text.appendData((piece.reasoning ?? "") + (piece.content ?? ""));
      byId("answer").scrollTop = byId("answer").scrollHeight;
    }
    continued ||= event.continued === true;
    tokens = event.usage?.completion_tokens ?? tokens;
  }
  if (!complete) throw new Error("The connection broke off; the answer is incomplete.");
  if (tokens !== null) facts["Answer"] = many(tokens, "token");
  if (tokens > 1 && firstAt !== null) {
    facts["A second"] = many(Number((1000 * (tokens - 1) / (performance.now() - firstAt))
      .toPrecision(3)), "token");
  }
  if (continued) facts["Continued"] = "by another replica: the one above failed";
  explain(response.headers, facts);
}

async function ask() {
  if (byId("send").disabled) return;
  const key = byId("key").value.trim();
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  asking = new AbortController();
  byId("error").hidden = true;
  byId("answer").replaceChildren(document.createTextNode(""));
  byId("answered").hidden = true;
  byId("send").disabled = true;
  byId("stop").disabled = false;
  try {
    const began = performance.now();
    const response = await fetch("/v1/chat/completions", {
      method: "POST", headers, body: JSON.stringify(body()), signal: asking.signal,
    });
    byId("answered").hidden = false;
    explain(response.headers, {});
    byId("answer-part").hidden = !response.ok;
    if (!response.ok) throw new Error(await errorOf(response));
    await stream(response, began);
  } catch (error) {
    if (error.name === "AbortError") fail("Stopped.");
    else if (error instanceof TypeError) fail("The connection to the router broke off.");
    else fail(error.message);
  } finally {
    byId("send").disabled = false;
    byId("stop").disabled = true;
  }
}

byId("prompt").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
byId("stop").addEventListener("click", () => asking?.abort());
byId("image").addEventListener("change", takeImage);
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey) byId("prompt").requestSubmit();
});
byId("model").addEventListener("change", () => {
  byId("image-field").hidden = !service?.models[byId("model").value]?.takes_images;
});
