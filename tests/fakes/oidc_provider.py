"""An OpenID Connect provider in a process of its own: ``oidc-provider-mock``, and around it what tests need besides.

It holds a code to the PKCE challenge that it was asked with, remembers what came, spoils the next ID token as told
(``PUT /spoil``), and signs logout tokens (``POST /logout-token``). Claims of a person: ``PUT /users/<sub>``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import flask
import jwt
import oidc_provider_mock
import werkzeug.serving
from cryptography.hazmat.primitives.asymmetric import rsa


class Around:
    """What the provider does besides."""

    def __init__(self, app: flask.Flask) -> None:
        self.spoiled: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.challenges: dict[str, str] = {}
        self.calls: list[dict[str, Any]] = []
        self.other_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        app.before_request(self.before)
        app.after_request(self.after)
        app.add_url_rule("/spoil", view_func=self.spoil, methods=["PUT"])
        app.add_url_rule("/calls", view_func=lambda: flask.jsonify(self.calls))
        app.add_url_rule("/logout-token", view_func=self.logout_token, methods=["POST"])

    def before(self) -> Any:
        request = flask.request
        if request.path == "/oauth2/token":
            self.calls.append({"path": request.path, **request.form.to_dict()})
            challenge = self.challenges.pop(request.form.get("code", ""), "")
            verifier = request.form.get("code_verifier", "")
            digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
            if request.form.get("grant_type") == "authorization_code" and digest != challenge:
                return flask.jsonify({"error": "invalid_grant", "error_description": "PKCE"}), 400
        if request.path == "/userinfo" and self.userinfo:
            told, self.userinfo = self.userinfo, {}
            return flask.jsonify(told)
        return None

    def after(self, response: flask.Response) -> flask.Response:
        if flask.request.path == "/oauth2/authorize" and "Location" in response.headers:
            code = parse_qs(urlsplit(response.headers["Location"]).query).get("code", [""])[0]
            self.challenges[code] = flask.request.args.get("code_challenge", "")
            self.calls.append({"path": "/oauth2/authorize", **flask.request.args.to_dict()})
        if flask.request.path == "/oauth2/token" and self.spoiled and response.status_code == 200:
            body = json.loads(response.get_data())
            if "id_token" in body:
                body["id_token"] = self.forged(body["id_token"])
                response.set_data(json.dumps(body))
        return response

    def forged(self, token: str) -> str:
        spoiled, self.spoiled = self.spoiled, {}
        how = spoiled.pop("how", "")
        claims = jwt.decode(token, options={"verify_signature": False}) | spoiled
        claims = {name: value for name, value in claims.items() if value is not None}
        head = {"kid": jwt.get_unverified_header(token).get("kid")}
        if how == "none":
            return jwt.encode(claims, key=None, algorithm="none", headers=head)
        if how == "shared":
            return jwt.encode(
                claims, key="the client's secret, as a key" * 2, algorithm="HS256", headers=head
            )
        if how == "other-key":
            return jwt.encode(claims, key=self.other_key, algorithm="RS256", headers=head)
        return self.signed(claims)

    def signed(self, claims: dict[str, Any]) -> str:
        key = flask.g.oidc_provider_mock_storage.jwk
        head = {name: value for name, value in (("kid", key.as_dict().get("kid")),) if value}
        return jwt.encode(claims, key=key.as_pem(is_private=True), algorithm="RS256", headers=head)

    def spoil(self) -> tuple[str, int]:
        body = flask.request.get_json()
        self.userinfo = body.pop("userinfo", {})
        self.spoiled = body
        return "", 204

    def logout_token(self) -> Any:
        body = flask.request.get_json()
        now = int(time.time())
        claims = {
            "iss": flask.request.host_url.rstrip("/"),
            "iat": now,
            "exp": now + 60,
            "jti": "one",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **body,
        }
        return flask.jsonify({"logout_token": self.signed(claims)})


def main() -> None:
    app = oidc_provider_mock.app()
    Around(app)
    server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
    print(server.server_port, flush=True)
    # It ends with whoever started it, however that ends.
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
