"""The names that the shim and its client agree on."""

REQUEST = "REQUEST"  # input: bytes of a JSON request to draw; the id of one to stop; empty when asking for the load
HEADER = "HEADER"  # output: JSON bytes
DATA = "DATA"  # output: the bytes that the header is about

QUESTION = "question"  # request parameter: one of the three below
DRAW = "draw"
LOAD = "load"
STOP = "stop"
TRACEPARENT = "traceparent"  # request parameters: the caller's place in the trace, W3C
TRACESTATE = "tracestate"
