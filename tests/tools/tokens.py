"""Makes and checks tokens with PyPI's atlassian-jwt: one JSON request per line in, one answer per line out."""

import json
import sys

import atlassian_jwt


class App(atlassian_jwt.Authenticator):
    def __init__(self, secret):
        super().__init__(leeway=0)
        self.secret = secret

    def get_shared_secret(self, client_key):
        return self.secret


def sign(request):
    call, claims = request["call"], request.get("claims", {})
    token = atlassian_jwt.encode_token(
        call["method"], call["url"], claims["iss"], request["secret"], payload_kwargs=claims
    )
    return {"token": token}


def verify(request):
    call = request["call"]
    headers = {"Authorization": "JWT " + request["token"]}
    verified = App(request["secret"]).authenticate(call["method"], call["url"], headers)
    return {"claims": verified.claims}


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"sign": sign, "verify": verify}[request["operation"]](request)
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps(answer), flush=True)
