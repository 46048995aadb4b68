package operation

// Intended names the instance that is meant to be the primary, because a failover
// made it so. Empty when no failover was made, and for plain addresses, whose notes
// are not kept with them. It is as old as the Deployment.
func (d *Deployment) Intended() string {
	if d.Workload == nil {
		return ""
	}
	return d.Workload.Annotations[NotePrimary]
}
