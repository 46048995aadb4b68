// Package redis is redisctl's vocabulary of Redis: INFO, replication state,
// versions and redis.conf, parsed without any connection. It is pure: every
// function takes text that a server or a ConfigMap gave and returns values.
//
// Valkey speaks the same protocol and fills the same INFO fields, so it needs no
// types of its own; Version tells the products apart.
package redis
