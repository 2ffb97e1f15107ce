#!/usr/bin/env bash
# Builds the two images, pushes them and writes their names into the manifests:
#   deploy/images.sh ghcr.io/acme
# The tag is the package's version, or what TAG says; DOCKER names another engine, such as podman.
set -euo pipefail
cd "$(dirname "$0")/.."
registry=${1:?usage: deploy/images.sh REGISTRY, such as ghcr.io/acme}
tag=${TAG:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}
docker=${DOCKER:-docker}

for accelerator in gpu cpu; do
    suffix=
    if [ "$accelerator" = cpu ]; then suffix=-cpu; fi
    image=$registry/mistral-serve$suffix:$tag
    "$docker" build -f deploy/Dockerfile --build-arg ACCELERATOR="$accelerator" -t "$image" .
    "$docker" push "$image"
done
# An ending right after -i is what both GNU's and macOS's sed take.
sed -i.old -E "s#image: [^ ]+/mistral-serve(-cpu)?[:@][^ ]+#image: $registry/mistral-serve\1:$tag#" \
    k8s/*.yaml deploy/overlays/*/*.yaml
rm k8s/*.old deploy/overlays/*/*.old
echo "the manifests name $registry/mistral-serve:$tag and $registry/mistral-serve-cpu:$tag"
