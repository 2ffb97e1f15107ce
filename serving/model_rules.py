"""What must be known of a model to normalise its requests, from its configuration."""

from serving.catalogue.system_prompt import SystemPromptError, default_system_prompt
from serving.config import ConfigError, ModelConfig
from serving.mistral import ModelRules


def rules_of(model: ModelConfig) -> ModelRules:
    """Returns the rules of a configured model. Raises ConfigError."""
    entry = model.entry
    try:
        system_prompt = default_system_prompt(entry) if model.default_system_prompt else None
    except SystemPromptError as error:
        raise ConfigError(str(error)) from None
    return ModelRules(
        model_id=entry.id,
        tokenizer=entry.tokenizer,
        context_tokens=entry.context_tokens,
        max_tokens=entry.sampling.max_tokens,
        image_limit=entry.image_limit,
        system_prompt=system_prompt,
        public_system_prompts=model.public_system_prompts,
        thinks=entry.reasoning,
        reasoning=model.reasoning,
        sampling=entry.sampling.defaults(),
        other_server=entry.kind == "openai",
    )
