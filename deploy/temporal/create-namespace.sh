#!/bin/sh
# Waits for the Temporal server, then makes sure that the namespace exists and can be used. Safe to run any number of
# times: an existing namespace is left as it is, so that a retention somebody raised by hand stays raised.
#
# TEMPORAL_ADDRESS     host:port of the server (read by the temporal CLI itself, too)
# TEMPORAL_NAMESPACE   name of the namespace
# NAMESPACE_RETENTION  how long the histories of finished workflows are kept, e.g. 30d
# WAIT_SECONDS         how long to wait for the server, and then for the namespace (default 120)
set -eu

: "${TEMPORAL_ADDRESS:?host:port of the Temporal server}"
: "${TEMPORAL_NAMESPACE:?name of the namespace}"
: "${NAMESPACE_RETENTION:?for example 30d}"

# wait_for WHAT COMMAND...: repeat the command each second until it succeeds; afterwards fail with its own last words.
wait_for() {
    what=$1
    shift
    left=${WAIT_SECONDS:-120}
    until said=$("$@" 2>&1); do
        left=$((left - 1))
        if [ "$left" -le 0 ]; then
            echo "$what at $TEMPORAL_ADDRESS is not there after ${WAIT_SECONDS:-120} tries. Last answer: $said" >&2
            exit 1
        fi
        sleep 1
    done
}

wait_for "The Temporal server" temporal operator cluster health

if temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
    echo "Namespace $TEMPORAL_NAMESPACE exists and is left as it is."
else
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$NAMESPACE_RETENTION"
fi

# A new namespace reaches the server's caches seconds later; a worker started before that would be refused.
wait_for "Namespace $TEMPORAL_NAMESPACE" temporal workflow count --namespace "$TEMPORAL_NAMESPACE"
echo "Namespace $TEMPORAL_NAMESPACE is ready."
