"""Rules of shape: the fields that the other rules read, and their types."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from kubernetes.utils.quantity import parse_quantity
from pydantic import AfterValidator, BaseModel, Field, IPvAnyNetwork, ValidationError, create_model

from serving.deploy.kube import named
from serving.deploy.lint.finding import Finding, report_on
from serving.deploy.manifests import Manifests

Quantity = Annotated[str | int | float, AfterValidator(parse_quantity)]
Labels = dict[str, str]


class Metadata(BaseModel):
    namespace: str = ""
    labels: Labels = {}
    annotations: Labels = {}


class Expression(BaseModel):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []


class Selector(BaseModel):
    matchLabels: Labels = {}
    matchExpressions: list[Expression] = []


class KeyReference(BaseModel):
    name: str
    key: str


class ValueFrom(BaseModel):
    secretKeyRef: KeyReference | None = None
    configMapKeyRef: KeyReference | None = None


class Value(BaseModel):
    valueFrom: ValueFrom = ValueFrom()


class Variable(Value):
    name: str


class ContainerPort(BaseModel):
    name: str = ""
    containerPort: int


class Mount(BaseModel):
    name: str
    mountPath: str


class Resources(BaseModel):
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class PortAction(BaseModel):
    port: int | str


class Probe(BaseModel):
    httpGet: PortAction | None = None
    tcpSocket: PortAction | None = None
    periodSeconds: int = 10
    failureThreshold: int = 3


class Exec(BaseModel):
    command: list[str] = Field(min_length=1)


class Handler(BaseModel):
    exec: Exec | None = None


class Lifecycle(BaseModel):
    preStop: Handler | None = None


class Seccomp(BaseModel):
    type: str = ""


class Capabilities(BaseModel):
    drop: list[str] = []


class SecurityContext(BaseModel):
    runAsUser: int = 0
    seccompProfile: Seccomp = Seccomp()
    capabilities: Capabilities = Capabilities()


class Container(BaseModel):
    name: str
    image: str
    command: list[str] = []
    env: list[Variable] = []
    ports: list[ContainerPort] = []
    volumeMounts: list[Mount] = []
    resources: Resources = Resources()
    readinessProbe: Probe | None = None
    livenessProbe: Probe | None = None
    startupProbe: Probe | None = None
    lifecycle: Lifecycle | None = None
    securityContext: SecurityContext = SecurityContext()


class EmptyDir(BaseModel):
    medium: str = ""
    sizeLimit: Quantity = 0


class Item(BaseModel):
    key: str


class ConfigMapSource(BaseModel):
    name: str
    items: list[Item] = []


class Source(BaseModel):
    configMap: ConfigMapSource | None = None
    secret: dict[str, Any] | None = None


class Projected(BaseModel):
    sources: list[Source] = []


class ClaimSource(BaseModel):
    claimName: str


class Volume(Source):
    name: str
    emptyDir: EmptyDir | None = None
    persistentVolumeClaim: ClaimSource | None = None
    projected: Projected | None = None


class Constraint(BaseModel):
    labelSelector: Selector | None = None


class PodSpec(BaseModel):
    containers: list[Container] = Field(min_length=1)
    initContainers: list[Container] = []
    volumes: list[Volume] = []
    topologySpreadConstraints: list[Constraint] = []
    terminationGracePeriodSeconds: int = 30
    serviceAccountName: str = ""
    priorityClassName: str = ""
    securityContext: SecurityContext = SecurityContext()


class Template(BaseModel):
    metadata: Metadata = Metadata()
    spec: PodSpec


class ClaimMetadata(BaseModel):
    name: str


class Claim(BaseModel):
    metadata: ClaimMetadata


class Workload(BaseModel):
    template: Template
    replicas: int = 1
    volumeClaimTemplates: list[Claim] = []
    serviceName: str = ""


class StartParams(BaseModel):
    cpus: float | None = Field(default=None, alias="num-cpus")
    object_store: float | None = Field(default=None, alias="object-store-memory")


class Group(BaseModel):
    rayStartParams: StartParams = StartParams()
    template: Template


class HeadService(BaseModel):
    metadata: Metadata = Metadata()


class Head(Group):
    headService: HeadService = HeadService()


class Workers(Group):
    groupName: str
    replicas: int = 0
    minReplicas: int | None = None
    maxReplicas: int | None = None
    numOfHosts: int = 1


class Autoscaler(BaseModel):
    image: str = ""
    resources: Resources = Resources()
    env: list[Variable] = []
    volumeMounts: list[Mount] = []
    securityContext: SecurityContext = SecurityContext()
    idleTimeoutSeconds: int = 0


class FaultTolerance(BaseModel):
    redisAddress: str = Field(default="redis:6379", pattern=r"^[^:]+:\d+$")
    redisPassword: Value = Value()


class Auth(BaseModel):
    mode: str = ""
    secretName: str = ""


class RayCluster(BaseModel):
    headGroupSpec: Head
    workerGroupSpecs: list[Workers] = []
    autoscalerOptions: Autoscaler = Autoscaler()
    authOptions: Auth = Auth()
    gcsFaultToleranceOptions: FaultTolerance | None = None


class UpgradeOptions(BaseModel):
    maxSurgePercent: int = 100
    stepSizePercent: int = -1
    intervalSeconds: int = 0


class UpgradeStrategy(BaseModel):
    type: str = ""
    clusterUpgradeOptions: UpgradeOptions | None = None


class ServicePort(BaseModel):
    port: int
    targetPort: int | str = ""


class ServiceSpec(BaseModel):
    ports: list[ServicePort] = []
    selector: Labels = {}


class ServeService(BaseModel):
    spec: ServiceSpec = ServiceSpec()


class RayServiceSpec(BaseModel):
    serveConfigV2: str
    rayClusterConfig: RayCluster
    rayClusterDeletionDelaySeconds: int = 60
    upgradeStrategy: UpgradeStrategy = UpgradeStrategy()
    serveService: ServeService | None = None


class Budget(BaseModel):
    selector: Selector


class PolicyPort(BaseModel):
    port: int | str = 1
    endPort: int = 1


class IpBlock(BaseModel):
    cidr: IPvAnyNetwork
    except_: list[IPvAnyNetwork] = Field(default=[], alias="except")


class Peer(BaseModel):
    ipBlock: IpBlock | None = None
    podSelector: Selector | None = None
    namespaceSelector: Selector | None = None


class PolicyRule(BaseModel):
    ports: list[PolicyPort] = []
    to: list[Peer] = []
    from_: list[Peer] = Field(default=[], alias="from")


class Policy(BaseModel):
    podSelector: Selector
    policyTypes: list[str] = []
    ingress: list[PolicyRule] = []
    egress: list[PolicyRule] = []


class Endpoint(BaseModel):
    port: str = ""


class PodMonitor(BaseModel):
    selector: Selector
    podMetricsEndpoints: list[Endpoint] = []


class Named(BaseModel):
    kind: str
    name: str


class Backend(BaseModel):
    name: str
    port: int = 0


class RouteRule(BaseModel):
    backendRefs: list[Backend] = []


class Route(BaseModel):
    rules: list[RouteRule] = []


class Quota(BaseModel):
    hard: dict[str, Quantity] = {}


_SPECS: dict[str, type[BaseModel]] = {
    "Deployment": Workload,
    "HTTPRoute": Route,
    "Job": Workload,
    "NetworkPolicy": Policy,
    "PodDisruptionBudget": Budget,
    "PodMonitor": PodMonitor,
    "RayService": RayServiceSpec,
    "ResourceQuota": Quota,
    "Service": ServiceSpec,
    "StatefulSet": Workload,
}


class Binding(BaseModel):
    metadata: Metadata
    roleRef: Named
    subjects: list[Named] = []


class ConfigMap(BaseModel):
    metadata: Metadata
    data: Labels = {}


class AnyKind(BaseModel):
    metadata: Metadata


_KINDS: dict[str, type[BaseModel]] = {
    "RoleBinding": Binding,
    "ConfigMap": ConfigMap,
    **{kind: create_model(kind, __base__=AnyKind, spec=spec) for kind, spec in _SPECS.items()},
}


def shape(manifests: Manifests) -> Iterator[Finding]:
    """A finding for each field that is missing or has the wrong type."""
    for obj in manifests.objects:
        wrong = report_on(named(obj), "shape")
        try:
            _KINDS.get(obj["kind"], AnyKind).model_validate(obj)
        except ValidationError as error:
            for each in error.errors():
                field = ".".join(map(str, each["loc"]))
                message = each["msg"].removeprefix("Value error, ")
                fix = f"`kubectl explain {obj['kind'].lower()}` says what it takes"
                yield wrong("field", f"{field}: {message}", fix)
