"""Which requests go on to replicas, which wait, and which are told when to come back. Pure: no I/O,
no clock, no Ray."""

from serving.admission.admission import Admission
from serving.admission.capacity import UNLIMITED, Capacity
from serving.admission.ticket import DEFAULT_PRIORITY, PRIORITIES, Demand, Refusal, Ticket

__all__ = [
    "DEFAULT_PRIORITY",
    "PRIORITIES",
    "UNLIMITED",
    "Admission",
    "Capacity",
    "Demand",
    "Refusal",
    "Ticket",
]
