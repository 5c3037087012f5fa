# A server's image with the probe in it, without a shell: the pattern to follow. The server here is
# examples/health_server.rs; yours takes its place. It takes the probe from an image:
#   docker build -f docker/Dockerfile --build-arg REVISION="$(git rev-parse HEAD)" -t grpc_health_probe .
#   docker build -f docker/app.Dockerfile -t health_server .

# Digests after the tags pin them.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG PROBE_IMAGE=grpc_health_probe
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot

# hadolint ignore=DL3006
FROM ${PROBE_IMAGE} AS probe

FROM ${RUST_IMAGE} AS build
WORKDIR /src

# The dependencies, in a layer of their own that lasts until the list of them changes.
COPY Cargo.toml Cargo.lock build.rs ./
COPY docker/for-architecture docker/
RUN mkdir -p src examples tests/blackbox benches/cost \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs tests/blackbox/main.rs \
    && cp src/main.rs benches/cost/main.rs \
    && cp src/main.rs examples/health_server.rs \
    && docker/for-architecture "" cargo build --release --locked --example health_server

COPY . .
# What was built above is newer than the files of a checkout, and cargo goes by time.
RUN touch src/lib.rs src/main.rs build.rs examples/*.rs \
    && docker/for-architecture "" cargo build --release --locked --example health_server --example certificates \
    && mkdir -p /out/empty \
    && cp target/*/release/examples/health_server target/*/release/examples/certificates /out

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
COPY --from=build /out/health_server /health_server
# Makes certificates for the TLS example, in a volume that takes its owner from here. An image of yours needs neither.
COPY --from=build /out/certificates /make-certificates
COPY --from=build --chown=65532:65532 /out/empty /certificates
COPY --from=probe /grpc_health_probe /grpc_health_probe
USER 65532:65532
EXPOSE 50051
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["/grpc_health_probe", "-addr=:50051", "-timeout=2s"]
ENTRYPOINT ["/health_server"]
CMD ["--addr=0.0.0.0:50051"]
