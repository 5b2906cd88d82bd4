# Two images of one pod: `server` answers gRPC in front of Triton, `triton` is the engine with the diffusion packages.
# Build from the repository's root:
#   docker build -f deploy/docker/inference.Dockerfile --target server -t imagemesh/inference:0.1.0 .
#   docker build -f deploy/docker/inference.Dockerfile --target triton --build-arg TRITON_IMAGE=… -t imagemesh/triton:0.1.0 .
# TRITON_IMAGE is the vendor's Triton image with the Python backend, for the CUDA driver of the cluster.
ARG TRITON_IMAGE=tritonserver:latest

FROM python:3.11-slim AS packages
RUN pip install --no-cache-dir uv
COPY requirements/inference.txt /requirements.txt
# The server only talks to Triton: everything that draws stays in the other image.
RUN grep -vE '^(torch|diffusers|transformers|accelerate|peft|nvidia-pytriton)==' /requirements.txt > /server.txt \
 && uv pip install --no-cache --no-deps --target /packages -r /server.txt

FROM python:3.11-slim AS server
COPY --from=packages /packages /packages
COPY clients/python/imagemesh /app/imagemesh
COPY mesh /app/mesh
COPY services/__init__.py /app/services/__init__.py
COPY services/inference /app/services/inference
ENV PYTHONPATH=/app:/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python", "-m", "services.inference"]

FROM ${TRITON_IMAGE} AS triton
COPY requirements/inference.txt /requirements.txt
RUN grep -v '^nvidia-pytriton==' /requirements.txt > /engine.txt && pip install --no-cache-dir -r /engine.txt
COPY clients/python/imagemesh /app/imagemesh
COPY mesh /app/mesh
COPY services/__init__.py /app/services/__init__.py
COPY services/inference /app/services/inference
COPY deploy/__init__.py /app/deploy/__init__.py
COPY deploy/local/__init__.py deploy/local/triton.py /app/deploy/local/
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python3", "-m", "deploy.local.triton", "--models", "/models", "--work-dir", "/tmp/triton", "--grpc-port", "7404", "--http-port", "7405", "--metrics-port", "7406"]
