document.title = "influence";
