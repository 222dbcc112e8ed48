"""Studies: methods compared with seeds, each at a learning rate searched on the source alone."""

from .carry import Kept, carry_out, forecast
from .configure import Configs
from .explain import explain
from .jobs import Local, Starter
from .read import Study, read_study
from .summarise import insert, summarise

__all__ = [
    "Configs",
    "Kept",
    "Local",
    "Starter",
    "Study",
    "carry_out",
    "explain",
    "forecast",
    "insert",
    "read_study",
    "summarise",
]
