"""Kubernetes' pod security standards, `baseline` and `restricted`, as checks of a pod's spec.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ (Linux).
"""

from collections.abc import Iterator

from tests.cluster.pod_rules import containers_of
from tests.cluster.schemas import Object

LABEL = "pod-security.kubernetes.io/"

_BASELINE_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
_SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip


def violations(level: str, spec: Object) -> list[str]:
    """What the level forbids in this spec, in the words of the admission controller."""
    found: list[str] = []
    if level in ("baseline", "restricted"):
        found += _baseline(spec)
    if level == "restricted":
        found += _restricted(spec)
    return found


def message(level: str, found: list[str]) -> str:
    return f'violates PodSecurity "{level}:latest": {", ".join(found)}'


def _baseline(spec: Object) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"host namespaces ({field}=true)"
    if any("hostPath" in volume for volume in spec.get("volumes", ())):
        yield "hostPath volumes"
    for sysctl in (spec.get("securityContext") or {}).get("sysctls", ()):
        if sysctl["name"] not in _SAFE_SYSCTLS:
            yield f"forbidden sysctls ({sysctl['name']})"
    for name, container, context in _contexts(spec):
        if context.get("privileged"):
            yield f'privileged (container "{name}" must not set securityContext.privileged=true)'
        added = set(context.get("capabilities", {}).get("add", ())) - _BASELINE_CAPABILITIES
        if added:
            yield f'non-default capabilities (container "{name}": {", ".join(sorted(added))})'
        if any(port.get("hostPort") for port in container.get("ports", ())):
            yield f'hostPort (container "{name}")'
        if context.get("procMount", "Default") != "Default":
            yield f'procMount (container "{name}")'
    for owner, context in _all_contexts(spec):
        if context.get("seccompProfile", {}).get("type") == "Unconfined":
            yield f"seccompProfile ({owner} must not set its type to Unconfined)"


def _restricted(spec: Object) -> Iterator[str]:
    pod = spec.get("securityContext") or {}
    for volume in spec.get("volumes", ()):
        kinds = set(volume) - {"name"}
        if kinds - _RESTRICTED_VOLUMES:
            used = ", ".join(sorted(kinds))
            yield f'restricted volume types (volume "{volume["name"]}" uses {used})'
    for name, _, context in _contexts(spec):
        if context.get("allowPrivilegeEscalation") is not False:
            yield (
                f'allowPrivilegeEscalation != false (container "{name}" must set '
                "securityContext.allowPrivilegeEscalation=false)"
            )
        capabilities = context.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()):
            yield (
                f'unrestricted capabilities (container "{name}" must set '
                'securityContext.capabilities.drop=["ALL"])'
            )
        if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield f'unrestricted capabilities (container "{name}" must not add capabilities)'
        if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            yield (
                f'runAsNonRoot != true (pod or container "{name}" must set '
                "securityContext.runAsNonRoot=true)"
            )
        profile = context.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
        if profile not in ("RuntimeDefault", "Localhost"):
            yield (
                f'seccompProfile (pod or container "{name}" must set '
                'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
            )
    for owner, context in _all_contexts(spec):
        if context.get("runAsUser") == 0:
            yield f"runAsUser=0 ({owner} must not set runAsUser=0)"


def _contexts(spec: Object) -> Iterator[tuple[str, Object, Object]]:
    for _, container in containers_of(spec):
        yield container["name"], container, container.get("securityContext") or {}


def _all_contexts(spec: Object) -> Iterator[tuple[str, Object]]:
    yield "pod", spec.get("securityContext") or {}
    for name, _, context in _contexts(spec):
        yield f'container "{name}"', context
