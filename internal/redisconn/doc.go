// Package redisconn talks to Redis servers over any net.Conn. It is redisctl's
// only importer of go-redis, and it holds redisctl's own client for the
// replication protocol, which go-redis does not speak.
//
//   - Client implements operation.Server over go-redis.
//   - Connector implements operation.Connector over any way to dial an instance.
//   - Addresses implements operation.Resolver for plain host:port addresses.
//   - OpenSnapshot reads an RDB snapshot over the replication protocol.
//   - Bgsave makes a server write its RDB file and waits until it has.
//
// Errors are *operation.Error. An error reply of the server is a *ReplyError in
// their chain. No error contains the password.
package redisconn
