ARG BASE
FROM ${BASE}
FROM alpine:${ALPINE_VERSION:-3.20} AS tools
RUN apk add --no-cache curl jq
RUN cat <<EOF > /etc/motd
FROM nobody with greetings
EOF
FROM scratch
COPY --from=tools /usr/bin/jq /jq
