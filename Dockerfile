# syntax=docker/dockerfile:1.7
# Two stages from one base: what compiles stays in the first. A release pins the base by digest
# (`--build-arg BASE=debian@sha256:...`): docker buildx imagetools inspect debian:bookworm-slim --format '{{.Manifest.Digest}}'.
ARG BASE=debian:bookworm-20251117-slim

FROM ${BASE} AS build
# Versions are not named: Debian's archive holds the newest alone, and the base is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential binutils ca-certificates python3 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY image/ image/
COPY patterns/ patterns/
COPY detectors/ detectors/
COPY gateway/ gateway/
# Patterns compiled here are taken by machines with the same instruction sets; others compile their own at the first start.
# Large ones are unpacked beside where they lie, 70 MB that the first start makes as well.
RUN ./image/build /src /opt/portcullis \
 && PORTCULLIS_DATA_DIR=/var/lib/portcullis /opt/portcullis/bin/portcullis check --json > /dev/null \
 && rm -f /var/lib/portcullis/cache/hyperscan-*.db

FROM ${BASE}
LABEL org.opencontainers.image.title="Portcullis" \
      org.opencontainers.image.description="A security gateway for LLM traffic" \
      org.opencontainers.image.source="https://github.com/portcullis-gateway/portcullis" \
      org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/doc /usr/share/man /usr/share/locale /usr/lib/*/gconv \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin portcullis
COPY --from=build /opt/portcullis /opt/portcullis
COPY --from=build --chown=10001:10001 /var/lib/portcullis /var/lib/portcullis
# No variable sets a key: it would go before the file that somebody mounts.
ENV PATH=/opt/portcullis/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    PORTCULLIS_DEFAULTS=/opt/portcullis/defaults.yaml
USER 10001:10001
WORKDIR /var/lib/portcullis
# The one folder that is written to; everything else may be read-only (docker run --read-only).
VOLUME /var/lib/portcullis
EXPOSE 8080/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 CMD ["portcullis", "health"]
ENTRYPOINT ["portcullis"]
CMD ["serve", "--json"]
