# The storage service.
# Build from the repository's root: docker build -f deploy/docker/storage.Dockerfile -t imagemesh/storage:0.1.0 .
FROM python:3.11-slim AS packages
RUN pip install --no-cache-dir uv
COPY requirements/storage.txt /requirements.txt
RUN uv pip install --no-cache --target /packages -r /requirements.txt

FROM python:3.11-slim
COPY --from=packages /packages /packages
COPY clients/python/imagemesh /app/imagemesh
COPY mesh /app/mesh
COPY services/__init__.py /app/services/__init__.py
COPY services/storage /app/services/storage
ENV PYTHONPATH=/app:/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python", "-m", "services.storage"]
