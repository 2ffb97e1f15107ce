#!/usr/bin/env bash
# Makes the Secrets that k8s/ names, where they are missing; what is there stays as it is.
#   hf-token        the Hugging Face token in the environment variable HF_TOKEN, if it is set
#   redis-password  a random one
#   ray-auth-token  a random one
#   api-keys        a keys file without keys, for `mistral-serve keys`
#   admin-key       a random one, for /-/status and Prometheus
# Needs kubectl and rights in the namespace. Values go over standard input alone.
set -euo pipefail
namespace=mistral-serve
cd "$(dirname "$0")/.."

make_secret() { # NAME KEY, value on standard input
    if kubectl --namespace "$namespace" get secret "$1" --output name >/dev/null 2>&1; then
        cat >/dev/null
        echo "secret/$1 is there" >&2
    else
        kubectl --namespace "$namespace" create secret generic "$1" --from-file="$2=/dev/stdin"
    fi
}

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

kubectl apply -f k8s/00-namespace.yaml
random | make_secret redis-password password
random | make_secret ray-auth-token auth_token
echo '{"keys": []}' | make_secret api-keys keys.json
random | make_secret admin-key key
if [ -n "${HF_TOKEN:-}" ]; then
    printf %s "$HF_TOKEN" | make_secret hf-token HF_TOKEN
else
    echo "HF_TOKEN is not set: no secret/hf-token, which repositories with terms of their own need" >&2
fi
