// Package guard holds tests of the project as a whole: who imports whom, what the agent's binary links and weighs, what
// every package has to say for itself, and what no file may contain. Each ban says its reason when it is broken; change
// the reason's source (docs, the design) before changing the ban.
//
// It has no code for others to use. What a program does is tested in test/system and beside the code itself.
package guard
