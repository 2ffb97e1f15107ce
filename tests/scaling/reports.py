from dataclasses import replace

from serving.scaling.report import Report, TimedReport

REPORT = Report(
    offered_prefill_tokens=0,
    waiting_prefill_tokens=0,
    waiting_kv_tokens=0,
    waiting_requests=0,
    running_kv_tokens=0,
    running_requests=0,
    draining=0,
    prefill_tokens_per_s=10_000,
    kv_cache_tokens=100_000,
    max_num_seqs=200,
    residence_time_s=10,
)


def timed(at_s: float, **values: float) -> TimedReport:
    return TimedReport(at_s, replace(REPORT, **values))
