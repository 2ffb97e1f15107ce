"""An identity provider on loopback, whose keys and tokens a test makes."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from serving.tenants.authentication_config import OidcConfig

AUDIENCE = "mistral-serve"


class Issuer:
    """Its `keys` are those that it lists, by their ids; `up` is whether it answers."""

    def __init__(self) -> None:
        self.url = "https://id.example.com"
        self.keys: dict[str, Any] = {"one": rsa.generate_private_key(65537, 2048)}
        self.up = True
        self.asked = 0
        """How often it was asked for its keys."""

    @property
    def config(self) -> OidcConfig:
        return OidcConfig(issuer=self.url, audience=AUDIENCE, tenant_claim="azp")

    def jwks(self, **fields: Any) -> bytes:
        listed = []
        for key_id, key in self.keys.items():
            is_rsa = isinstance(key, rsa.RSAPrivateKey)
            to_jwk = RSAAlgorithm.to_jwk if is_rsa else ECAlgorithm.to_jwk
            jwk = to_jwk(key.public_key(), as_dict=True)
            listed.append({"kid": key_id, "use": "sig", **jwk, **fields})
        return json.dumps({"keys": listed}).encode()

    def token(
        self,
        tenant: Any = "search",
        key_id: str = "one",
        headers: dict[str, Any] | None = None,
        key: Any = None,
        algorithm: str = "RS256",
        **claims: Any,
    ) -> str:
        """Returns a token that is valid for five minutes, but for what is given."""
        now_s = time.time()
        payload = {
            "iss": self.url,
            "aud": AUDIENCE,
            "azp": tenant,
            "iat": now_s,
            "exp": now_s + 300,
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        headers = {"kid": key_id} if headers is None else headers
        return jwt.encode(payload, key or self.keys[key_id], algorithm, headers)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Serves the provider's discovery document and keys."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {
                "/.well-known/openid-configuration": json.dumps(
                    {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}
                ).encode(),
                "/keys": issuer.jwks(),
            }
            issuer.asked += self.path == "/keys"
            body = answers.get(self.path) if issuer.up else None
            self.send_response(200 if body else 503)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
