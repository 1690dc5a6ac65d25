"""What a command would do and cost, told without writing anything where it would write.

A sample is made for real, in a temporary folder and in a process of its own; `forecast` has what is
said of the whole, `measure` the sample, `convert` and `shards` a command each.
"""

from pipelines.dry_run.convert import forecast_convert
from pipelines.dry_run.forecast import Forecast, Span
from pipelines.dry_run.shards import forecast_shards

__all__ = ["Forecast", "Span", "forecast_convert", "forecast_shards"]
