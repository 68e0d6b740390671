# Two stages: the first builds a wheel and a virtual environment, the second holds nothing but that environment.
#
#   docker build -t stockledger .
#   docker run --name ledger -p 127.0.0.1:8000:8000 -v stockledger:/var/lib/stockledger stockledger
#   docker exec ledger stockledger keys create me --scope read --scope catalog:write --scope stock:write
#
# With DATABASE_URL set it uses that PostgreSQL; without it, one of its own in the volume. docker-compose.yml does the former.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
# PostgreSQL's own programs come along unless EXTRAS is empty.
ARG EXTRAS=embedded
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY ledger ledger
COPY projections projections
COPY api api
RUN pip wheel --no-deps --wheel-dir wheels . \
    && python -m venv /opt/stockledger \
    && /opt/stockledger/bin/pip install "$(echo wheels/stockledger-*.whl)${EXTRAS:+[$EXTRAS]}"

FROM python:${PYTHON}-slim
# A user with a name, because initdb asks for one, and a fixed number, because volumes keep numbers.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin stockledger \
    && install -d -o stockledger -g stockledger -m 0755 /var/lib/stockledger
COPY --from=build /opt/stockledger /opt/stockledger
ENV PATH=/opt/stockledger/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STOCKLEDGER_HOST=0.0.0.0 \
    STOCKLEDGER_PORT=8000 \
    STOCKLEDGER_DATA_DIR=/var/lib/stockledger
USER 10001:10001
WORKDIR /var/lib/stockledger
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['STOCKLEDGER_PORT']), timeout=4); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]
CMD ["stockledger", "serve"]
