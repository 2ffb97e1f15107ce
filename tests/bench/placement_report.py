"""The results of the placement benchmark, as tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from serving.simulator.result import Slo
from tests.bench.relay_report import new_table
from tests.support.summary import Summary

if TYPE_CHECKING:
    from tests.bench.placement import Ladder, Run

Means = Mapping[tuple[float, str], Summary]
"""The results by rate and policy."""

HIT_TARGET = 0.97
FOLLOW_UP_TARGET = 0.98


def show_ladder(
    console: Console,
    ladder: "Ladder",
    means: Means,
    ceilings: Mapping[float, tuple[float, float]],
) -> None:
    """A table of a load. `ceilings` has, by rate, the hit rate of an infinite cache, with which the
    hit rates are compared, and of a cache of all replicas' size."""
    policies = list(dict.fromkeys(policy for _, policy in means))
    for rate in ladder.rates:
        infinite, pooled = ceilings[rate]
        first = means[rate, policies[0]]
        table = new_table(
            f"{ladder.title}, {rate:g}: {first.offered_per_s:.1f} requests/s; an infinite cache "
            f"hits {infinite:.1%}, one of all replicas {pooled:.1%}",
            "policy",
            *("good/s", "good", "TTFT p50 s", "p99 s", "ITL p99 ms", "hit", "of ceiling"),
            *("spread", "preempted", "refused"),
        )
        for policy in policies:
            summary = means[rate, policy]
            table.add_row(
                policy,
                f"{summary.goodput_per_s:.2f}",
                f"{summary.good_share:.1%}",
                f"{summary.ttft_p50_s:.3f}",
                f"{summary.ttft_p99_s:.2f}",
                f"{1000 * summary.itl_p99_s:.0f}",
                f"{summary.hit_rate:.1%}",
                f"{summary.hit_rate / infinite:.1%}",
                f"{summary.spread:.2f}",
                f"{summary.preemptions:.0f}",
                f"{summary.refused:.0f}",
            )
        console.print(table)


def show_join(console: Console, before_and_after: tuple[Summary, float], replicas: int) -> None:
    summary, share = before_and_after
    console.print(
        f"A replica that joins {replicas} others gets {share:.0%} of the next 100 requests (its "
        f"part would be {1 / (replicas + 1):.0%}); their TTFT p99 is {summary.ttft_p99_s:.2f} s.\n"
    )


def show_hit_rates(
    console: Console, run: "Run", rates: Sequence[tuple[float, float, float]]
) -> None:
    table = new_table(
        f"A replica joins, {run.load} at {run.rate:g} a second",
        "until, s",
        *("hit rate of the others", "of the new one"),
    )
    for until_s, others, joined in rates:
        table.add_row(f"{until_s:.0f}", f"{others:.1%}", f"{joined:.1%}")
    console.print(table)


def show_routers(console: Console, rows: Sequence[tuple["Run", Summary]]) -> None:
    table = new_table(
        "Several routers, sessions",
        "routers",
        *("learn of each other", "good", "TTFT p99 s", "hit", "follow-up hit", "of one router's"),
    )
    one = rows[0][1].follow_up_hit_rate
    for run, summary in rows:
        lag = "never" if run.lag_s is None else f"in {1000 * run.lag_s:.0f} ms"
        table.add_row(
            str(run.routers),
            lag if run.routers > 1 else "",
            f"{summary.good_share:.1%}",
            f"{summary.ttft_p99_s:.2f}",
            f"{summary.hit_rate:.1%}",
            f"{summary.follow_up_hit_rate:.1%}",
            f"{summary.follow_up_hit_rate / one:.3f}",
        )
    console.print(table)


def show_goodput(
    console: Console,
    ours: str,
    ladders: Sequence[tuple["Ladder", Means]],
) -> None:
    """A summary of all rates."""
    policies = list(dict.fromkeys(policy for _, means in ladders for _, policy in means))
    table = new_table(
        "Good requests in % (the best policy's in bold)", "load", "rate", *policies, "to peers"
    )
    for ladder, means in ladders:
        for rate in ladder.rates:
            good = {policy: means[rate, policy].good_share for policy in policies}
            most = max(good.values())
            peers = max(share for policy, share in good.items() if policy != ours)
            table.add_row(
                ladder.load,
                f"{rate:g}",
                *(
                    f"[bold]{100 * share:.1f}[/]" if share == most else f"{100 * share:.1f}"
                    for share in good.values()
                ),
                f"{good[ours] / max(peers, 1e-9):.3f}",
            )
    console.print(table)
    slo = Slo()
    console.print(
        f"Good: first token within {slo.ttft_s:g} s and at most {1000 * slo.itl_s:g} ms between "
        "tokens on average, of all requests sent. Spread: coefficient of variation of the "
        f"replicas' requests in flight. Targets: hits {HIT_TARGET:.0%} of an infinite cache's "
        f"where there is room for all prefixes, follow-ups of 8 routers {FOLLOW_UP_TARGET:g} of "
        "one's, goodput at least the best peer's.\n"
    )
