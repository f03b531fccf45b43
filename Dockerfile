# The application from its checkout, for servers of your own: PENSTOCK_REDIS_URL and PENSTOCK_DATABASE_URL say where.
# The tag is exact. A digest would pin it further: `docker buildx imagetools inspect python:3.13.9-slim-trixie` says it,
# and `FROM python:3.13.9-slim-trixie@sha256:…` takes it. It is not written here: it changes with each rebuild of the tag.
FROM python:3.13.9-slim-trixie AS packages
WORKDIR /app
COPY requirements.lock pyproject.toml README.md ./
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.13.9-slim-trixie
RUN useradd --create-home --uid 10001 penstock
WORKDIR /app
COPY --from=packages --chown=penstock:penstock /app/.venv .venv
COPY --chown=penstock:penstock . .
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e .
RUN install -d -o penstock -m 0700 .penstock
USER penstock
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8080
STOPSIGNAL SIGTERM
CMD ["python", "-m", "api"]
