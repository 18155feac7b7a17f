//! What `config/aws/openapi.yaml` must say.
