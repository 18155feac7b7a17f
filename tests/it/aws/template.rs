//! What `config/aws/template.yaml` must say.
