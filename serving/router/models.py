"""The endpoints that list models, in a form for clients of OpenAI's and Mistral's APIs, and in
Anthropic's."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request

from serving.adapters.adapter import Adapter
from serving.router.http import authentication_errors, errors
from serving.router.http.authentication import Authentication
from serving.router.http.errors import ANTHROPIC_VERSION, invalid_value, wrong_value
from serving.router.http.openapi import limit_of, whole_number
from serving.router.replicas.directory import Directory
from serving.router.replicas.served_model import ServedModel
from serving.tenants import Caller

PATH = "/v1/models"
_MOST_LISTED = 1000

Card = dict[str, Any]
"""What is told of a model: the fields of OpenAI's API, of Mistral's, and of vLLM."""

AnthropicVersion = Annotated[
    str | None,
    Header(
        alias=ANTHROPIC_VERSION,
        description="Has the answer in Anthropic's form, errors too. Only there are lists paged.",
    ),
]


def add_endpoints(api: FastAPI, directory: Directory, authentication: Authentication) -> None:
    """Adds the list of the models and adapters that a caller may use, and each one of them."""
    started_at_s = int(time.time())

    async def caller(request: Request) -> Caller:
        return await authentication.caller(request.scope)

    FromCaller = Annotated[Caller, Depends(caller)]

    def card(served: ServedModel) -> Card:
        model = served.model
        return {
            "id": model.model_id,
            "object": "model",
            "created": started_at_s,
            "owned_by": "mistral-serve",
            "root": model.model_id,
            "parent": None,
            "max_model_len": served.max_model_len,
            "aliases": list(model.aliases),
            **_of_mistrals_api(served),
        }

    def adapter_card(served: ServedModel, adapter: Adapter) -> Card:
        return card(served) | {
            "id": adapter.name,
            "root": adapter.version.digest,
            "parent": served.model.model_id,
            "aliases": list(adapter.declared.aliases),
            "canary": _canary(adapter),
        }

    def usable(caller: Caller) -> list[ServedModel]:
        models = directory.models.values()
        return [served for served in models if caller.may_use(served.model.names)]

    @api.get(PATH)
    async def list_models(
        caller: FromCaller,
        version: AnthropicVersion = None,
        limit: Annotated[str, whole_number(_MOST_LISTED)] = "20",
        after_id: str | None = None,
        before_id: str | None = None,
    ) -> dict[str, Any]:
        """Lists the models and adapters that the caller may use."""
        cards = [card(served) for served in usable(caller)]
        for served, adapter in directory.adapters_of(caller.tenant.name):
            if caller.may_use(adapter.declared.names):
                cards.append(adapter_card(served, adapter))
        if version is None:
            return {"object": "list", "data": cards}
        return _page(cards, limit_of(limit, _MOST_LISTED), after_id, before_id)

    @api.get(PATH + "/{name:path}")
    async def get_model(
        name: str, caller: FromCaller, version: AnthropicVersion = None
    ) -> dict[str, Any]:
        """Returns what is known of a model or an adapter."""
        found = find(name, caller)
        return found if version is None else _in_anthropics_form(found)

    def find(name: str, caller: Caller) -> Card:
        found = directory.find_adapter(name)
        if found is not None and found[1].declared.may_be_used_by(caller.tenant.name):
            if not caller.may_use(found[1].declared.names):
                raise authentication_errors.model_not_allowed(name)
            return adapter_card(*found)
        served = directory.find(name)
        if served is None:
            known = [served.model.model_id for served in usable(caller)]
            raise errors.unknown_model(name, known)
        if not caller.may_use(served.model.names):
            raise authentication_errors.model_not_allowed(name)
        return card(served)


def _of_mistrals_api(served: ServedModel) -> dict[str, Any]:
    """Returns the fields by which clients of Mistral's API know a model."""
    rules = served.model.rules
    fields = {
        "type": "base",
        "capabilities": {
            "completion_chat": True,
            "function_calling": True,
            "vision": rules is not None and rules.image_limit > 0,
            "reasoning": rules is not None and rules.thinks,
            "completion_fim": False,
            "fine_tuning": False,
        },
    }
    context_tokens = served.max_model_len or (rules and rules.context_tokens)
    # Those clients do not take null.
    return fields if context_tokens is None else {**fields, "max_context_length": context_tokens}


def _canary(adapter: Adapter) -> dict[str, Any] | None:
    if adapter.canary is None or adapter.declared.canary is None:
        return None
    return {"root": adapter.canary.digest, "weight": adapter.declared.canary.weight}


def _page(
    cards: Sequence[Card], limit: int, after_id: str | None, before_id: str | None
) -> dict[str, Any]:
    """Returns the page of Anthropic's list behind one of its models, or in front of one."""
    if after_id is not None and before_id is not None:
        raise invalid_value(
            "before_id", "after_id and before_id exclude each other: send one of them."
        )
    ids = [card["id"] for card in cards]
    for field, value in (("after_id", after_id), ("before_id", before_id)):
        if value is not None and value not in ids:
            raise wrong_value(field, "the id of a model in the list")
    if before_id is not None:
        end = ids.index(before_id)
        begin = max(0, end - limit)
        has_more = begin > 0
    else:
        begin = 0 if after_id is None else ids.index(after_id) + 1
        end = begin + limit
        has_more = end < len(ids)
    page = [_in_anthropics_form(card) for card in cards[begin:end]]
    return {
        "data": page,
        "has_more": has_more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _in_anthropics_form(card: Card) -> dict[str, Any]:
    return {
        "type": "model",
        "id": card["id"],
        "display_name": card["id"],
        "created_at": datetime.fromtimestamp(card["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": card["max_model_len"],
        "max_tokens": card["max_model_len"],
    }
