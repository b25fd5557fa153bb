// Package store keeps everything durable of the relay in NATS JetStream, which runs inside the relay's own process
// with its files in one folder: configuration in buckets of keys and values, written synchronously, and the access log
// in a stream that is written behind a bounded queue, so that no call ever waits for a disk.
//
// It knows bytes, keys and revisions. What the records mean is the business of relay/gateway and relay/connector,
// which keep a Mirror of their bucket in memory, so that the path of a request never reads the store either.
//
//	st, err := store.Open(ctx, store.Config{Dir: "/var/lib/sallyport-relay", Log: log})
//	bucket, err := st.Bucket(ctx, "gateways")
//	revision, err := bucket.Create(ctx, "plant1", record)  // on disk when it returns
//	st.Append(event)                                       // never waits
//	err = st.Close(ctx)
//
// A store that has lost something is an error of Open (ErrDamaged), never a relay that starts empty.
package store
