# One image for every process of a cluster: a program with object types, the gate, the
# inspector and the command line. PROGRAM is the folder of the program:
#
#   docker build --build-arg PROGRAM=./samples/counter -t goverse-counter .
FROM golang:1.26-alpine AS build
ARG PROGRAM=./samples/counter
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /out/program $PROGRAM
RUN CGO_ENABLED=0 go build -trimpath -o /out/ ./cmd/gate ./cmd/inspector ./cmd/goverse

FROM alpine:3.22
RUN apk add --no-cache ca-certificates && adduser -D -u 10001 goverse && mkdir /data && chown goverse /data
COPY --from=build /out/ /usr/local/bin/
USER 10001
VOLUME /data
ENV GOVERSE_DATA_DIR=/data
# SIGTERM hands the node's objects over; give it time (docker stop --time 60).
STOPSIGNAL SIGTERM
CMD ["program"]
