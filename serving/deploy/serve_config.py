"""The application's config inside a RayService."""

from pydantic import ValidationError

from serving.config import AppConfig
from serving.config.serve_file import ServeFileError, application_args
from serving.deploy.errors import BadInput
from serving.deploy.objects import Object
from serving.section import NotYamlError, explain, parse_yaml


def config_of(service: Object) -> AppConfig:
    """The application's config in a RayService. Raises BadInput."""
    try:
        document = parse_yaml(service["spec"]["serveConfigV2"])
        return AppConfig.model_validate(application_args(document))
    except ValidationError as error:
        field, message = explain(error, AppConfig)[0]
        raise BadInput(f"serveConfigV2: {field}: {message}") from None
    except (NotYamlError, ServeFileError) as error:
        raise BadInput(f"serveConfigV2: {error}") from None
    except (TypeError, KeyError, ValueError, AttributeError):
        raise BadInput("serveConfigV2 is not a Serve config of one application") from None


def model_ids(service: Object) -> list[str]:
    """The ids of the models that a RayService serves. Raises BadInput."""
    return [model.entry.id for model in config_of(service).models]
