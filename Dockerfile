FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# Shown by --version and llm_probe_exporter_build_info: docker build --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION=unknown
ENV LLM_PROBE_EXPORTER_REVISION=$REVISION
COPY . .
# Only the binary leaves this stage; the cache mounts keep the next build short.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && cp target/release/llm-probe-exporter /llm-probe-exporter

# glibc, libgcc, CA certificates and time zones: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="llm-probe-exporter" \
      org.opencontainers.image.description="Probes LLM inference endpoints with bursts of concurrent streaming requests and tells Prometheus what a user would have felt" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /llm-probe-exporter /usr/local/bin/llm-probe-exporter
COPY --from=build /src/LICENSE /src/THIRD-PARTY.md /usr/share/doc/llm-probe-exporter/
# The user `nonroot` of the base, as a number, so that Kubernetes can verify runAsNonRoot.
USER 65532:65532
EXPOSE 9850
ENTRYPOINT ["/usr/local/bin/llm-probe-exporter"]
# Arguments to `docker run` take the place of this line: `docker run … demo`, `docker run … check --config.file=…`.
CMD ["--config.file=/etc/llm-probe-exporter/config.yaml"]
