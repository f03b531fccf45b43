# The application from its checkout, for servers of your own: PENSTOCK_REDIS_URL and PENSTOCK_DATABASE_URL say where.
FROM python:3.13-slim AS packages
WORKDIR /app
COPY requirements.lock pyproject.toml README.md ./
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.13-slim
RUN useradd --create-home --uid 10001 penstock
WORKDIR /app
COPY --from=packages --chown=penstock:penstock /app/.venv .venv
COPY --chown=penstock:penstock . .
RUN .venv/bin/pip install --no-cache-dir --no-deps -e .
RUN install -d -o penstock -m 0700 .penstock
USER penstock
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8080
STOPSIGNAL SIGTERM
CMD ["python", "-m", "api"]
