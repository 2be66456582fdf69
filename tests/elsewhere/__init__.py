"""An application that one process serves while others change its users and serve nobody."""
