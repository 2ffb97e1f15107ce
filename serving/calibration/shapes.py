"""A model's matrices and heads, by the part that one GPU of a tensor parallel group has."""

from dataclasses import dataclass

from serving.catalogue import CatalogueEntry
from serving.catalogue.memory import Network
from serving.tiny.spec import PRESETS


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes of one layer. `vocab` is the number of outputs of the head."""

    hidden: int
    query_heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int

    @classmethod
    def of(cls, network: Network, gpus: int) -> "Shapes":
        """Raises ValueError for a number of GPUs that does not divide the heads."""
        for whole in (network.heads, network.kv_heads, network.ffn_size, network.vocab_size):
            if whole % gpus:
                raise ValueError(f"{whole} cannot be dealt out to {gpus} GPUs")
        return cls(
            network.hidden_size,
            network.heads // gpus,
            network.kv_heads // gpus,
            network.head_dim,
            network.ffn_size // gpus,
            network.vocab_size // gpus,
        )

    @property
    def query(self) -> int:
        return self.query_heads * self.head_dim

    @property
    def qkv(self) -> int:
        return self.query + 2 * self.kv_heads * self.head_dim

    @property
    def layer(self) -> tuple[tuple[int, int], ...]:
        """Outputs and inputs of a layer's matrices: query, key and value; output of the attention;
        gate and up; down."""
        return (
            (self.qkv, self.hidden),
            (self.hidden, self.query),
            (2 * self.ffn, self.hidden),
            (self.hidden, self.ffn),
        )

    @property
    def layer_parameters(self) -> int:
        return sum(outputs * inputs for outputs, inputs in self.layer)


def network_of(entry: CatalogueEntry) -> Network | None:
    """The network of the entry or, for an embedded model, which is for CPUs, of its preset."""
    if entry.network is not None or entry.embedded is None:
        return entry.network
    spec = PRESETS[entry.embedded]
    return Network(
        hidden_size=spec.dim,
        layers=spec.n_layers,
        heads=spec.n_heads,
        kv_heads=spec.n_kv_heads,
        head_dim=spec.head_dim,
        ffn_size=spec.hidden_dim,
        vocab_size=spec.vocab_size,
    )
