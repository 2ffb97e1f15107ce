import pytest

from serving import catalogue
from serving.calibration.shapes import Shapes, network_of

SMALL = catalogue.load("mistral-small-3.2-24b-instruct-2506")


def test_a_layer_has_the_parameters_of_the_catalogue() -> None:
    assert SMALL.network
    assert Shapes.of(SMALL.network, 1).layer_parameters == SMALL.network.linear_parameters


def test_two_gpus_have_half_of_each_layer_and_of_the_head() -> None:
    assert SMALL.network
    one, two = Shapes.of(SMALL.network, 1), Shapes.of(SMALL.network, 2)
    assert two.layer_parameters * 2 == one.layer_parameters
    assert (two.vocab, two.query_heads, two.kv_heads) == (65_536, 16, 4)
    assert two.layer == ((3072, 5120), (5120, 2048), (32_768, 5120), (5120, 16_384))


def test_what_cannot_be_dealt_out_is_said() -> None:
    assert SMALL.network
    with pytest.raises(ValueError, match="3 GPUs"):
        Shapes.of(SMALL.network, 3)


def test_an_embedded_model_has_the_shapes_of_its_preset() -> None:
    network = network_of(catalogue.load("tiny-mistral-small-3.2"))
    assert network and (network.hidden_size, network.layers, network.head_dim) == (160, 3, 32)
    assert network_of(SMALL) == SMALL.network
