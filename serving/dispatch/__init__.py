"""The life of a request between its arrival and its end. Pure: no I/O, no clock, no Ray."""

from serving.dispatch.admission_control import Limits
from serving.dispatch.dispatcher import Dispatcher
from serving.dispatch.expected_output import ExpectedOutput
from serving.dispatch.messages import Cached, LimitMessage, Message
from serving.dispatch.quota import DEMAND_PERIOD_S
from serving.dispatch.rate_limiter import (
    Allowance,
    Exceeded,
    Permit,
    RateLimiter,
    adapter_key,
)
from serving.dispatch.request import DEFAULT_PRIORITY, PRIORITIES, Request
from serving.dispatch.reservation import Outcome, Reason, Rejection, Reservation, Spent, State
from serving.dispatch.tenant_limits import LimitName, TenantLimits

__all__ = [
    "DEFAULT_PRIORITY",
    "DEMAND_PERIOD_S",
    "PRIORITIES",
    "Allowance",
    "Cached",
    "Dispatcher",
    "Exceeded",
    "ExpectedOutput",
    "LimitMessage",
    "LimitName",
    "Limits",
    "Message",
    "Outcome",
    "Permit",
    "RateLimiter",
    "Reason",
    "Rejection",
    "Request",
    "Reservation",
    "Spent",
    "State",
    "TenantLimits",
    "adapter_key",
]
