package backup

import "github.com/redisctl/redisctl/internal/operation/redact"

// Placeholder stands where a secret was.
const Placeholder = redact.Placeholder

// IsSecret reports whether a setting of a server is a secret.
func IsSecret(name string) bool { return redact.IsSecret(name) }
