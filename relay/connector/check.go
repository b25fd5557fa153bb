package connector

// Check says with an *Invalid what is wrong with a connector's settings by themselves, as Publish would. What is wrong beside
// others, such as a host name that is taken, only the relay knows.
func Check(c Connector) error {
	_, err := c.normal()
	return err
}
