# hookcache as an image: the program, what it is linked with, and no more. No shell, no package manager.
#
#   docker build --tag hookcache:0.1.0 .
#
# k8s/README.md says how to label, pin and push it. tests/it/image.rs runs this file without Docker.

# All that comes from elsewhere, but for the crates of Cargo.lock. A tag may move; a digest after it does not.
ARG RUST=docker.io/library/rust:1.95.0-slim-bookworm

FROM ${RUST} AS build
WORKDIR /build

# No path of the builder in the program.
RUN mkdir .cargo && printf '%s\n' \
        '[build]' \
        "rustflags = ['--remap-path-prefix=$CARGO_HOME=/cargo', '--remap-path-prefix=$PWD=/hookcache']" \
        '[env]' \
        "CFLAGS = '-ffile-prefix-map=$CARGO_HOME=/cargo -ffile-prefix-map=$PWD=/hookcache'" \
        >.cargo/config.toml

# Dependencies, in a layer that a change of our sources leaves alone: the same build, of programs that do nothing. They
# are wiped, as cargo goes by times, and our files may be older than they.
COPY Cargo.toml Cargo.lock ./
COPY lambda/Cargo.toml lambda/
COPY lambda/webhooks/Cargo.toml lambda/webhooks/
RUN mkdir -p src lambda/src lambda/webhooks/src benches \
    && touch src/lib.rs \
    && sed -n '/^\[\[bench/,/^name/s/^name = "\(.*\)"/benches\/\1.rs/p' Cargo.toml | xargs touch \
    && echo 'fn main() {}' | tee lambda/src/main.rs lambda/webhooks/src/main.rs >src/main.rs \
    && cargo build --locked --release --package hookcache --bin hookcache \
    && cargo clean --locked --release --package hookcache

COPY config config
COPY docs docs
COPY src src
RUN cargo build --locked --release --package hookcache --bin hookcache

# The root of the image. ca-certificates is for SQS: all else has its authorities in the program. Without nsswitch.conf, glibc
# asks DNS before /etc/hosts. What dpkg and os-release say is for scanners, which ask by it whether glibc has a fault.
COPY LICENSE ./
ARG SOURCE_DATE_EPOCH=0
RUN set -eu; \
    install -D -t image/usr/local/bin target/release/hookcache; \
    ldd target/release/hookcache | grep -o '/[^ ]*' | while read -r library; do \
        install -D "$library" "image$library"; \
    done; \
    install -D -m 644 -t image/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt; \
    install -D -m 644 -t image/etc /etc/os-release; \
    echo 'hosts: files dns' >image/etc/nsswitch.conf; \
    install -D -m 644 -t image/usr/share/doc/hookcache LICENSE; \
    mkdir -p image/var/lib/dpkg/status.d; \
    for package in libc6 libgcc-s1 ca-certificates; do \
        install -D -m 644 -t "image/usr/share/doc/$package" "/usr/share/doc/$package/copyright"; \
        dpkg-query --status "$package" >"image/var/lib/dpkg/status.d/$package"; \
    done; \
    mkdir volume; \
    find image volume -exec touch --date="@$SOURCE_DATE_EPOCH" {} +

FROM scratch
COPY --from=build /build/image /
COPY --from=build --chown=65532:65532 /build/volume /var/lib/hookcache

# The control plane stays on loopback, where `hookcache healthcheck` and `docker exec` find it.
ENV PATH=/usr/local/bin \
    HOOKCACHE_LISTEN=0.0.0.0:8080 \
    HOOKCACHE_DATA_DIR=/var/lib/hookcache
EXPOSE 8080 8081
USER 65532:65532
WORKDIR /var/lib/hookcache
VOLUME /var/lib/hookcache
# As long as it may take to open a large file after a kill, nobody calls it ill.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 CMD ["hookcache", "healthcheck"]
ENTRYPOINT ["hookcache"]
CMD ["serve"]

ARG SOURCE
ARG REVISION
LABEL org.opencontainers.image.title="hookcache" \
      org.opencontainers.image.description="A webhook cache: what it has accepted is safe until the store has it" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}"
