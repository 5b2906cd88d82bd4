"""Logs: JSON lines on standard error, from our code and from the libraries' own loggers alike."""

from __future__ import annotations

import logging
import sys
from typing import cast

import structlog


def configure_logs(service: str, level: str, trace_ids: structlog.typing.Processor) -> None:
    """JSON lines on standard error, from structlog and from the libraries' own loggers alike."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        trace_ids,
        _service(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    least = max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()])
    logging.basicConfig(handlers=[handler], level=least, force=True)


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `module`, the service and the current trace and span ids."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(module=name))


def _service(name: str) -> structlog.typing.Processor:
    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = name
        return event

    return add
