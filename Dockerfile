# The interpreter that requirements.txt was made with.
ARG BASE=python:3.11-slim-trixie
FROM ${BASE} AS build
COPY requirements/pip.txt /requirements/
COPY requirements.txt /
# Wheels only, so no compiler is needed; psycogreen has none, but is pure Python, and built with the locked setuptools.
# Nothing installs anything in the finished image.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --only-binary :all: --require-hashes --requirement /requirements/pip.txt \
    && /venv/bin/pip install --no-cache-dir --only-binary :all: --no-binary psycogreen --no-build-isolation \
        --require-hashes --requirement /requirements.txt \
    && /venv/bin/pip uninstall --yes setuptools pip

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin scoreboard
COPY --from=build /venv /venv
COPY . /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    PORT=8000
# By number, so that an orchestrator can see that it is not root.
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD python deploy/probe.py /health/live "$PORT" "$BIND"
# The web process; deploy/compose.yaml and the Procfile have the others.
CMD ["gunicorn", "--config", "deploy/gunicorn.conf.py", "app:create_app()"]
