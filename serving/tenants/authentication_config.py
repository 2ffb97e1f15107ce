"""Settings of authentication."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from serving.section import Section, wrong


class OidcConfig(Section):
    """An identity provider whose tokens (JWTs) identify tenants, in place of API keys."""

    issuer: str
    """The provider's URL, as the claim `iss` of its tokens has it. Its signing keys are found from
    there by OpenID Connect's discovery."""
    audience: str = Field(min_length=1)
    """What the claim `aud` must contain: this service, as the provider calls it."""
    tenant_claim: str = Field(min_length=1)
    """The claim that has the tenant's name, such as `azp` or one that you define."""
    clock_skew_s: float = Field(ge=0, le=600, default=60)
    """How far the provider's clock may be from the routers'."""

    @field_validator("issuer")
    @classmethod
    def _is_an_https_url(cls, issuer: str) -> str:
        url = urlsplit(issuer)
        secure = url.scheme == "https" or (
            url.scheme == "http" and url.hostname is not None and is_loopback(url.hostname)
        )
        if not url.hostname or not secure or url.query or url.fragment:
            raise ValueError(f"allowed is an https URL without a query (got '{issuer}')")
        return issuer


class AuthenticationConfig(Section):
    """Who may use the API, and who may see the state of the service. With neither API keys nor an
    identity provider it is open to everyone who reaches it."""

    keys_file: str | None = None
    """The file with the hashes of the tenants' API keys, where the routers run, as
    `mistral-serve keys` writes it. Changes of it take effect within two seconds."""
    oidc: OidcConfig | None = None
    admin_key_file: str | None = None
    """A file with the key that `/-/status` and `/-/targets` require, where the routers run. Changes
    of it take effect within two seconds. Without the setting they need none."""
    allow_anonymous: bool = False
    """Whether everyone who reaches the router may use the API. Without API keys and an identity
    provider, a router that other machines can reach requires it."""

    @model_validator(mode="after")
    def _is_open_or_not(self) -> "AuthenticationConfig":
        if self.allow_anonymous and self.knows_callers:
            raise wrong(
                "allow_anonymous",
                "cannot be combined with keys_file and oidc, which let in only whom they know",
            )
        return self

    @property
    def knows_callers(self) -> bool:
        """Whether requests need an API key or a token."""
        return self.keys_file is not None or self.oidc is not None


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches what listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
