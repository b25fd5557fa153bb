package main

import "context"

// defaultConfig is where agent.yaml is.
const defaultConfig = `C:\ProgramData\Sallyport\agent.yaml`

// hangups gives nothing: Windows has no such signal, the file is watched.
func hangups(context.Context) <-chan struct{} { return nil }
