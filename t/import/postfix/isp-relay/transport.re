/@big\.example$/ smtp:[10.9.9.9]:26
