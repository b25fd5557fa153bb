package tunnel

import "sync"

// A chunk is a piece of a body that waits to be sent or read. The smallest are made to size and left to the garbage
// collector; all others come from pools by size class, which get them back.
type chunk struct {
	buf  []byte // all of it
	r, w int    // buf[r:w] is what it holds
}

const (
	// tinyChunk is the size up to which a chunk is made to size.
	tinyChunk = 512
	// smallChunk is what a typical JSON answer fits into.
	smallChunk = 2 << 10
)

// The size classes keep the waste below half, so that memory stays close to what flow control counts.
var chunkSizes = [...]int{1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10}

// Package variables that change nothing but where memory comes from.
var chunkPools [len(chunkSizes)]sync.Pool

// newChunk gives an empty chunk with room for n bytes, n <= 64 kB.
func newChunk(n int) *chunk {
	if n <= tinyChunk {
		return &chunk{buf: make([]byte, n)}
	}
	for i, size := range chunkSizes {
		if n <= size {
			if c, ok := chunkPools[i].Get().(*chunk); ok {
				c.r, c.w = 0, 0
				return c
			}
			return &chunk{buf: make([]byte, size)}
		}
	}
	return &chunk{buf: make([]byte, n)}
}

// free gives the chunk back; it must not be used any more.
func (c *chunk) free() {
	for i, size := range chunkSizes {
		if len(c.buf) == size {
			chunkPools[i].Put(c)
			return
		}
	}
}

func (c *chunk) bytes() []byte { return c.buf[c.r:c.w] }
func (c *chunk) room() int     { return len(c.buf) - c.w }

// write appends what fits and says how much did.
func (c *chunk) write(p []byte) int {
	n := copy(c.buf[c.w:], p)
	c.w += n
	return n
}

const (
	// narrow is the room of a Buffer into which little comes at a time.
	narrow = 16 << 10
	// wide is the room of one into which much does: as much as one message carries.
	wide = piece
)

// A Buffer is where body bytes are read to that a Stream is to send. Its memory is borrowed, and goes with the bytes where
// there are many of them: nothing is copied then. The zero value is ready for use; it is for one goroutine.
type Buffer struct {
	c    *chunk // nil: none is borrowed
	size int    // of the room; 0 is narrow
}

// Room is memory to read into, good until the next call of Send or Free. It is 16 kB, or 64 kB after that was filled.
func (b *Buffer) Room() []byte {
	if b.c == nil {
		b.size = max(b.size, narrow)
		b.c = newChunk(b.size)
	}
	return b.c.buf[:b.size]
}

// Free gives the memory back.
func (b *Buffer) Free() {
	if b.c != nil {
		b.c.free()
		b.c = nil
	}
}

// moveTo puts the first n bytes of the room into q, copied only where the memory is less than half full, and makes the next
// room as large as suits that.
func (b *Buffer) moveTo(q *queue, n int) {
	if n >= b.size/2 {
		b.c.w = n
		q.push(b.c)
		b.c = nil
	} else {
		q.append(b.c.buf[:n])
	}
	size := b.size
	switch {
	case n == b.size:
		size = wide
	case n < narrow:
		size = narrow
	}
	if size != b.size {
		b.Free()
		b.size = size
	}
}

// A queue is bytes in order, in chunks. The zero value is empty.
type queue struct {
	chunks []*chunk
	size   int
}

// tail gives a last chunk with at least n bytes of room if there is one.
func (q *queue) tail(n int) *chunk {
	if len(q.chunks) == 0 {
		return nil
	}
	if c := q.chunks[len(q.chunks)-1]; c.room() >= n {
		return c
	}
	return nil
}

func (q *queue) push(c *chunk) {
	q.chunks = append(q.chunks, c)
	q.size += c.w - c.r
}

// append copies p into the queue, filling up the last chunk first: many small pieces must not cost more memory than
// their bytes.
func (q *queue) append(p []byte) {
	for len(p) > 0 {
		c := q.tail(1)
		if c == nil {
			size := len(p)
			if q.size > 0 && size <= smallChunk {
				size = smallChunk + 1 // more small ones will follow
			}
			c = newChunk(min(size, chunkSizes[len(chunkSizes)-1]))
			q.chunks = append(q.chunks, c)
		}
		n := c.write(p)
		q.size += n
		p = p[n:]
	}
}

// read copies bytes out and frees what is used up.
func (q *queue) read(p []byte) int {
	total := 0
	for len(p) > 0 && len(q.chunks) > 0 {
		c := q.chunks[0]
		n := copy(p, c.bytes())
		c.r += n
		total += n
		p = p[n:]
		if c.r == c.w {
			q.pop().free()
		}
	}
	q.size -= total
	return total
}

// pop takes the first chunk without changing size.
func (q *queue) pop() *chunk {
	c := q.chunks[0]
	q.chunks[0] = nil
	q.chunks = q.chunks[1:]
	if len(q.chunks) == 0 {
		q.chunks = nil
	}
	return c
}

// shift takes the first chunk out, with its bytes; the caller frees it.
func (q *queue) shift() *chunk {
	if len(q.chunks) == 0 {
		return nil
	}
	c := q.pop()
	q.size -= c.w - c.r
	return c
}

// drop forgets everything. A chunk that was taken from in part may still be on its way to the network, so it does not go
// back to its pool: another stream's bytes would be sent in its place.
func (q *queue) drop() {
	for _, c := range q.chunks {
		if c.r == 0 {
			c.free()
		}
	}
	q.chunks, q.size = nil, 0
}
