#!/usr/bin/env bash
# Builds the two images, pushes them with a copy of Redis' image, and writes their names and digests into
# the manifests: deploy/images.sh ghcr.io/acme
# What follows the registry goes to the build, such as --build-arg PIP_INDEX_URL=https://pypi.acme.com/simple.
# The tag is the package's version, or what TAG says; DOCKER names another engine, such as podman, and
# REDIS another place of Redis' image.
set -euo pipefail
cd "$(dirname "$0")/.."
registry=${1:?usage: deploy/images.sh REGISTRY [OPTION OF docker build …], such as ghcr.io/acme}
shift
tag=${TAG:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}
docker=${DOCKER:-docker}
redis=${REDIS:-docker.io/library/redis:7.2.16-alpine}

# push IMAGE: pushes it and writes its name and digest where the manifests name an image of that name.
push() {
    "$docker" push "$1"
    name=${1##*/} name=${name%:*}
    # Docker lists the digests of Docker Hub's images without docker.io/.
    listed=${registry#docker.io/}/$name
    digest=$("$docker" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" |
        sed -nE "s#^(docker.io/)?$listed@##p" | head -n 1)
    if [ -z "$digest" ]; then
        echo "$docker has pushed $1 and knows no digest of it: \`$docker image inspect $1\` has none" \
            "for $registry/$name among its RepoDigests" >&2
        exit 1
    fi
    # A digest is another one for each build: nodes would not pull a tag again that they have.
    pinned="$1@$digest"
    # An ending right after -i is what both GNU's and macOS's sed take.
    sed -i.old -E "s#image: [^ ]+/${name}[:@][^ ,}]+#image: $pinned#" k8s/*.yaml deploy/overlays/*/*.yaml
    rm k8s/*.old deploy/overlays/*/*.old
    echo "the manifests name $pinned"
}

"$docker" pull --platform linux/amd64 "$redis"
for accelerator in gpu cpu; do
    image=$registry/mistral-serve$([ $accelerator = gpu ] || echo -cpu):$tag
    # Ray's image and vLLM's CPU kernels are for amd64; a Mac's engine would build for arm64.
    "$docker" build --platform linux/amd64 -f deploy/Dockerfile --build-arg ACCELERATOR=$accelerator \
        "$@" -t "$image" .
    push "$image"
done
"$docker" tag "$redis" "$registry/${redis##*/}"
push "$registry/${redis##*/}"
