"""An OpenID provider on loopback that says whatever a test wants, signed with keys it really publishes."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


class ForgedProvider:
    """Discovery, keys, token and userinfo; everything it answers is an attribute, `reset` makes it honest again."""

    def __init__(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                provider.answer(self, {name: values[0] for name, values in parse_qs(body).items()})

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.other_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.reset()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reset(self) -> None:
        """Honest answers."""
        self.document: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }
        self.keys: list[dict[str, Any]] = [self.public(self.key, "one")]
        self.token_status = 200
        self.token_answer: Any = {}
        self.userinfo_status = 200
        self.userinfo: Any = {}
        self.requests: list[tuple[str, dict[str, str] | None, dict[str, str]]] = []

    def answer(self, request: BaseHTTPRequestHandler, form: dict[str, str] | None) -> None:
        self.requests.append((request.path, form, dict(request.headers)))
        answers = {
            "/.well-known/openid-configuration": (200, self.document),
            "/keys": (200, {"keys": self.keys}),
            "/token": (self.token_status, self.token_answer),
            "/userinfo": (self.userinfo_status, self.userinfo),
        }
        status, body = answers.get(request.path, (404, {}))
        signed = isinstance(body, str)
        payload = body.encode() if signed else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/jwt" if signed else "application/json; charset=utf-8")
        request.send_header("Content-Length", str(len(payload)))
        request.end_headers()
        request.wfile.write(payload)

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked == path for asked, _, _ in self.requests)

    @staticmethod
    def public(key: rsa.RSAPrivateKey, kid: str | None) -> dict[str, Any]:
        """The JSON Web Key to publish."""
        data = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"use": "sig", "alg": "RS256"}
        return data if kid is None else data | {"kid": kid}

    def claims(self, nonce: str, /, **changes: Any) -> dict[str, Any]:
        """What an honest ID token says; a change to None removes the claim."""
        now = int(time.time())
        honest = {"iss": self.issuer, "sub": "alice", "aud": "relay", "exp": now + 300, "iat": now, "nonce": nonce}
        return {name: value for name, value in (honest | changes).items() if value is not None}

    def sign(
        self, claims: dict[str, Any], *, key: Any = None, algorithm: str = "RS256", kid: str | None = "one"
    ) -> str:
        """A signed token, by default with the published key."""
        headers = {"kid": kid} if kid else {}
        return jwt.encode(claims, self.key if key is None else key, algorithm=algorithm, headers=headers)

    def hand_out(self, id_token: str) -> None:
        """What the token endpoint answers next."""
        self.token_answer = {"id_token": id_token, "access_token": "an access token", "token_type": "Bearer"}
