"""Where the tasks of an audit run: in this process, in worker processes, or on a Ray cluster."""

from auditor.executors.choose import choose_executor
from auditor.executors.here import Here
from auditor.executors.jobs import Executor, Finished, Job, Work, book_spent, perform
from auditor.executors.processes import Processes
from auditor.executors.schedule import schedule

__all__ = [
    "Executor",
    "Finished",
    "Here",
    "Job",
    "Processes",
    "Work",
    "book_spent",
    "choose_executor",
    "perform",
    "schedule",
]
