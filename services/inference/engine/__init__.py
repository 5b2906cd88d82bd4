"""The engine: a step scheduler over diffusion pipelines.

It knows torch and diffusers and nothing of gRPC, NATS or telemetry, so that the same code runs inside Triton's Python
backend and in the service's own process. Importing this package imports neither torch nor diffusers; `families` does.
"""
