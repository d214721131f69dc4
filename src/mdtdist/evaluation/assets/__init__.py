"""Files of any system as something measurable: read, turned upright, pictured, sampled."""
